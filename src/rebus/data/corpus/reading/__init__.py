"""Files to documents, streamed: what lies in them, in which encoding, and where one document ends."""
