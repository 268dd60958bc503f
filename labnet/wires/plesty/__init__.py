"""The PLESTY device-server wire: JSON over ZeroMQ DEALER and ROUTER."""
