"""Documents to shards: encoded, dealt to splits, written, and gone on with after a kill."""
