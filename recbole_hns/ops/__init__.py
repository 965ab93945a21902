"""Tensor operations that know neither models nor samplers, and what of them depends on a device."""
