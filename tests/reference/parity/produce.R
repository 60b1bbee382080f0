# Prints parity.json: drop1 and profile information of lme4, PBmodcomp and KRmodcomp of pbkrtest, contrasts of
# emmeans.  About two minutes.  Rscript produce.R > parity.json
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite); library(numDeriv)})
data(Oats, package = "nlme"); data(Machines, package = "nlme")
Oats <- as.data.frame(Oats); Machines <- as.data.frame(Machines)
Oats$Block <- factor(Oats$Block, ordered = FALSE)
Machines$Worker <- factor(Machines$Worker, ordered = FALSE)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e6))
frames <- list(Oats = Oats, Machines = Machines, cake = lme4::cake, sleepstudy = lme4::sleepstudy, Pastes = lme4::Pastes,
               Penicillin = lme4::Penicillin)
fitted <- function(name, formula, REML = TRUE) {
  .data <<- frames[[name]]
  eval(substitute(lme4::lmer(F, .data, REML = REML, control = tight), list(F = as.formula(formula), REML = REML)))
}

drops <- lapply(list(
  c("Oats", "yield ~ nitro + Variety + (1 | Block / Variety)"),
  c("cake", "angle ~ recipe * temp + (1 | recipe:replicate)"),
  c("cake", "angle ~ 0 + recipe + factor(temp) + (1 | recipe:replicate)"),
  c("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  c("Machines", "score ~ Machine + (Machine | Worker)")
), function(m) {
  found <- as.data.frame(drop1(fitted(m[1], m[2]), test = "Chisq"))
  list(dataset = m[1], formula = m[2], terms = rownames(found), df = found$npar, aic = found$AIC, LRT = found$LRT,
       p = found$`Pr(Chi)`)
})

boots <- lapply(list(
  c("Oats", "yield ~ nitro + Variety + (1 | Block / Variety)", "yield ~ nitro + (1 | Block / Variety)"),
  c("sleepstudy", "Reaction ~ Days + (Days | Subject)", "Reaction ~ 1 + (Days | Subject)"),
  c("Machines", "score ~ Machine + (1 | Worker / Machine)", "score ~ 1 + (1 | Worker / Machine)")
), function(m) {
  large <- fitted(m[1], m[2], FALSE)
  small <- fitted(m[1], m[3], FALSE)
  test <- suppressWarnings(PBmodcomp(large, small, nsim = 1000, seed = 1))
  ref <- test$ref[test$ref > 0]
  list(dataset = m[1], large = m[2], small = m[3], statistic = test$test["LRT", "stat"], df = test$test["LRT", "df"],
       mean = mean(ref), var = var(ref), n = length(ref))
})

restrict <- lapply(list(
  c("Oats", "yield ~ nitro + Variety + (1 | Block / Variety)", "yield ~ nitro + (1 | Block / Variety)"),
  c("cake", "angle ~ recipe * temp + (1 | recipe:replicate)", "angle ~ recipe + (1 | recipe:replicate)"),
  c("cake", "angle ~ recipe + factor(temp) + (1 | recipe:replicate)", "angle ~ recipe + temp + (1 | recipe:replicate)")
), function(m) {
  large <- fitted(m[1], m[2]); small <- fitted(m[1], m[3])
  kr <- getKR(KRmodcomp(large, small))
  sat <- SATmodcomp(large, small)$test
  list(dataset = m[1], large = m[2], small = m[3], F = kr$FstatU, F_scaled = kr$Fstat, num_df = kr$ndf, den_df = kr$ddf,
       p = kr$p.value, sat = list(F = sat$statistic[1], den_df = sat$ddf[1], p = sat$p.value[1]))
})

cake <- fitted("cake", "angle ~ recipe + factor(temp) + (1 | recipe:replicate)")
means <- emmeans(cake, ~ temp, lmer.df = "kenward-roger")
kinds <- c("pairwise", "revpairwise", "consec", "mean_chg", "eff", "del.eff", "trt.vs.ctrl1", "trt.vs.ctrlk", "poly", "helmert")
contrasts <- Filter(Negate(is.null), lapply(kinds, function(kind) {
  found <- tryCatch(as.data.frame(contrast(means, kind)), error = function(e) NULL)
  if (is.null(found)) return(NULL)
  list(kind = kind, label = as.character(found$contrast), estimate = found$estimate, SE = found$SE, df = found$df,
       p = found$p.value)
}))

components <- lapply(list(
  c("sleepstudy", "Reaction ~ Days + (Days | Subject)"), c("Pastes", "strength ~ 1 + (1 | batch/cask)"),
  c("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
), function(m) {
  fit <- fitted(m[1], m[2], FALSE)
  dev <- lme4:::devfun2(fit, useSc = TRUE, signames = FALSE)
  at <- attr(dev, "optimum")
  at <- at[seq_len(length(at) - length(fixef(fit)))]
  H <- hessian(function(p) dev(p), at)
  list(dataset = m[1], formula = m[2], names = names(at), value = unname(at), vcov = 2 * solve(H))
})
cat(toJSON(list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), pbkrtest = as.character(packageVersion("pbkrtest")),
                emmeans = as.character(packageVersion("emmeans")), drop1 = drops, bootstrap = boots, restriction = restrict,
                contrasts = contrasts, components = components), auto_unbox = TRUE, digits = NA, pretty = TRUE), "\n")
