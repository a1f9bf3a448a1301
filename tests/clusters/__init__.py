"""Redis and RabbitMQ servers that tests start for themselves: one, or several as a cluster."""
