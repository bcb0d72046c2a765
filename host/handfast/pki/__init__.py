"""The private certificate authorities: keys, profiles, certificates, time stamps."""
