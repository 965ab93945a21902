def export(**k): pass
