"""Documents that people write: text in, positions kept, models and expressions out."""
