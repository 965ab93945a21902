"""What ``recbole-hns benchmark`` measures, one measurement a module.

Every measurement sets RecBole's own training beside that with samplers, on the same data and from
the same seed. On CUDA the device is waited for at both ends of what is timed; that path has not
been run yet.
"""
