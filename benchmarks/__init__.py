"""How fast the road is, each figure beside the floor or the peer that was measured in the same minutes."""
