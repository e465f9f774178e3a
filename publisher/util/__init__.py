"""Files, HTTP and processes: what every layer needs and no layer is about."""
