"""What tests build on: stand-ins and a fixed cast."""
