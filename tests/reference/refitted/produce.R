# Prints refitted.json: rePCA and refitML of lme4 on its own data sets.  Rscript produce.R > refitted.json
suppressMessages({library(lme4); library(jsonlite)})
models <- list(
  c("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  c("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
  c("Pastes", "strength ~ 1 + (1 | batch/cask)"),
  c("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  c("cake", "angle ~ recipe * temp + (temp | recipe:replicate)")
)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e6))
out <- lapply(models, function(m) {
  fit <- lmer(as.formula(m[2]), get(m[1], asNamespace("lme4")$.__NAMESPACE__.$lazydata), control = tight)
  ml <- refitML(fit)
  list(
    dataset = m[1], formula = m[2],
    sdev = lapply(rePCA(fit), function(p) p$sdev),
    ml = list(theta = unname(getME(ml, "theta")), logLik = as.numeric(logLik(ml)), beta = unname(fixef(ml)),
              sigma = sigma(ml))
  )
})
cat(toJSON(list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), cases = out),
           auto_unbox = TRUE, digits = NA, pretty = TRUE), "\n")
