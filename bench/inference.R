# One task of bench/inference.py in R: Rscript inference.R TASK FOLDER N_SIM; prints seconds and a check value.
suppressMessages({library(lme4); library(lmerTest)})
args <- commandArgs(TRUE)
task <- args[1]; folder <- args[2]; nsim <- as.integer(args[3])
large <- startsWith(task, "large")
if (large) {
  read <- function(name, what, size = 8) { path <- file.path(folder, name); readBin(path, what, file.info(path)$size / size) }
  d <- data.frame(y = read("y", "double"), x = read("x", "double"), g = factor(read("g", "integer", 4)))
  formula <- y ~ x + (1 + x | g)
} else {
  d <- lme4::sleepstudy
  formula <- Reaction ~ Days + (Days | Subject)
}
control <- lmerControl(calc.derivs = FALSE)
fit <- lme4::lmer(formula, d, control = control)
timed <- function(expr) { gc(); start <- proc.time()[["elapsed"]]; value <- force(expr); c(proc.time()[["elapsed"]] - start, value) }
found <- switch(sub(".* ", "", task),
  satterthwaite = timed(coef(summary(lmerTest::as_lmerModLmerTest(fit)))[2, "df"]),
  "kenward-roger" = { library(pbkrtest); timed({ L <- c(0, 1); Lb_ddf(L, vcov(fit), vcovAdj(fit)) }) },
  profile = timed(suppressMessages(confint(fit, method = "profile", quiet = TRUE))[1, 1]),
  bootstrap = timed({ b <- bootMer(fit, function(m) c(fixef(m), sigma(m), getME(m, "theta")), nsim = nsim, seed = 1); mean(b$t[, 3]) }),
  cook = timed(max(cooks.distance(influence(fit, groups = if (large) "g" else "Subject")))))
cat(format(found, digits = 10), "\n")
