"""The cTrader Open API: `CTraderAccess` is a market access over TLS, in the protocol's protobuf form."""
