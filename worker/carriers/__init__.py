"""The ways out of the house: one protocol, a registry by kind, and the carriers behind them."""
