"""How a question is answered: one file a method, behind one protocol, and the registry (`spec`) that says what each is.

Nothing is imported here: planning asks the registry alone, and loads no torch.
"""
