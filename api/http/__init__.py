"""What happens to requests and answers whatever they are about: limits, bodies, origins, errors, JSON."""
