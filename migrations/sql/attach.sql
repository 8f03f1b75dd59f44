SELECT daybook.attach()
