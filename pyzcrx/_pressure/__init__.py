"""When the area runs low: policy, and what is done. It knows an interface, not the ifq."""
