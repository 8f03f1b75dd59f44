SELECT daybook.detach()
