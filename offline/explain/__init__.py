"""One user as the model saw them: `replayed` from a log, `live` from the stream's own state, `show` and `page` draw."""
