// lwIP without an operating system needs nothing here.
