"""Files, HTTP and processes: helpers that every layer uses."""
