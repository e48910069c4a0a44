"""Model calls: the backend protocol, retries and circuit breaker, the litellm worker, a scripted server."""
