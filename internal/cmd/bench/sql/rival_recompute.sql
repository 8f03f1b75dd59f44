SELECT rival.recompute()
