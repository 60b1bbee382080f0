"""Tolerances of comparisons with recorded results, each with its reason.

The recorded optima are good to about 1e-9 in the criterion and 1e-6 to 1e-8 in
theta.  Quantities that are flat in theta inherit the first, the others the
second, multiplied by their own slope.
"""

# the criterion must never end above the recorded optimum: absolute, and relative for the large cases
CRITERION_ABS = 1e-6
CRITERION_REL = 1e-10

# ... nor below it by more than the recorded optimum's own error
CRITERION_BELOW = 1e-6
CRITERION_BELOW_REL = 1e-9

# estimates in units of their standard error: what a reader could not notice
FIXED_EFFECTS_IN_SE = 2e-4

# relative: sigma and standard errors follow theta, recorded to about 1e-6
STANDARD_ERROR = 2e-4
SIGMA = 1e-4

# Satterthwaite df: lmerTest differentiates numerically (numDeriv, about 1e-6), at an optimum known to 1e-6
SATTERTHWAITE_DF = 2e-3

# a p-value's relative error is about |t| times the error of t: compared as tail quantiles, in units of t
T_VALUE = 1e-3

# variances and covariances relative to sd_i sd_j, plus a floor relative to sigma^2 for estimates near 0
VARCORR = 5e-4
VARCORR_FLOOR = 1e-5

# row-wise quantities relative to their own range
FITTED = 1e-3
RANEF = 1e-3
CONDITIONAL_VARIANCE = 1e-3

# information criteria, R2 and ICC: smooth in theta at the optimum or nearly so
CRITERIA_ABS = 1e-5
R2 = 1e-4

# invariances of one model in two guises: rounding in two different sums
INVARIANCE = 1e-6
INVARIANCE_CRITERION = 1e-8
