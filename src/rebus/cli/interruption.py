"""Whether Ctrl-C was pressed: libraries make other errors of what reaches them while they are imported."""

happened = False
