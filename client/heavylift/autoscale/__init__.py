"""What a HorizontalPodAutoscaler does with a load: its algorithm as a pure function, and simulations that run it.

``hpa`` is the algorithm, ``manifest`` reads the object, ``load`` has the curves, ``simulate`` runs one through it.
"""
