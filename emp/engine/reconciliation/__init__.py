"""What is told against what is known: lots against our orders and the venue's word, first prices and units against
those of before. Nothing of it is booked, converted or traded on before it is borne out.
"""
