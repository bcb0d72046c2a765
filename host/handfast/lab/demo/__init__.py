"""``handfast demo``: the whole life of a few boards, shown and then checked."""
