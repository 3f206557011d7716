"""Key rates of links on paper: expected counts, lengths, sweeps, optimal parameters, figures."""
