"""The registry: finds the component that an installed package declares under a name, and builds it."""
