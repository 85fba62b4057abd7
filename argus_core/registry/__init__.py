"""The registry: from a name to the component that a package declares for it, and to what it builds."""
