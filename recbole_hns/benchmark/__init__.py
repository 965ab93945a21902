"""What ``recbole-hns benchmark`` measures, one measurement a module.

Every measurement sets RecBole's own training beside that with samplers, on the same data, from the
same seed, in one process.
"""
