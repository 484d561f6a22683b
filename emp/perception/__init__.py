"""Events to dimensionless numbers: book, features, MarketState, model input, targets."""
