"""How one volume is changed without loss: journal, lease, freeze, copy, proof. Knows no job type."""
