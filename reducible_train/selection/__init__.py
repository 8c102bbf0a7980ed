"""Which rank each kernel shall get; nothing is changed here."""
