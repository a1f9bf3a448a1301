"""Smart Router: routes messages between actors that come and go."""
