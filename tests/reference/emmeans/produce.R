# Type I-III tables of lmerTest and marginal means of emmeans, for tests/inference/.
# Run in this folder: Rscript produce.R; writes unbalanced.csv, anova.json, emmeans.json.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite)})
options(contrasts = c("contr.treatment", "contr.poly"))

set.seed(11)
n <- 260
d <- data.frame(g = factor(sample(1:20, n, TRUE)), a = factor(sample(c("p", "q", "r"), n, TRUE, c(.5, .3, .2))),
                b = factor(sample(c("u", "v"), n, TRUE, c(.7, .3))), c = factor(sample(c("k", "l", "m", "n"), n, TRUE)),
                x = round(rnorm(n, 4, 1.5), 2), z = round(rexp(n), 2), i = rbinom(n, 1, .3))
d$w <- round(runif(n, .5, 2), 2)
e <- rnorm(20)[d$g]
d$y <- round(5 + .8 * (d$a == "q") - .4 * (d$b == "v") * (d$a == "r") + .3 * d$x + .2 * d$x * (d$b == "v") + e + rnorm(n), 3)
# an empty cell of a and c
d$c2 <- d$c
d$c2[d$a == "r" & d$c == "n"] <- "k"
# levels of nb occur in one level of a each
d$nb <- factor(paste0(d$a, as.integer(d$b)))
write.csv(d, "unbalanced.csv", row.names = FALSE)
d <- read.csv("unbalanced.csv", stringsAsFactors = TRUE)
d$g <- factor(d$g)
exact <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE)

fit <- function(formula, data = d, ...) suppressMessages(lmerTest::lmer(as.formula(formula), data, control = exact, ...))
table_of <- function(t) list(terms = rownames(t), sum_sq = t[[1]], mean_sq = t[[2]], num_df = t[[3]], den_df = t[[4]],
                             F = t[[5]], p = t[[6]])
formulas <- c("y ~ a * b + x + (1 | g)", "y ~ x * a + b + (1 | g)", "y ~ a * b * c + (1 | g)", "y ~ b * x + a * x + z + (1 | g)",
              "y ~ a * c2 + x + (1 | g)", "y ~ 0 + a + b:x + (1 | g)", "y ~ a + a:b + (1 | g)", "y ~ x + a:x + (1 | g)",
              "y ~ b + (1 | g)", "y ~ a + b + c + x + (x | g)", "y ~ a * poly(x, 2) + b + (1 | g)", "y ~ a / b + x + (1 | g)",
              "y ~ a * b + b * c + (1 | g)", "y ~ a * b * x + (1 | g)")
anovas <- list()
add <- function(formula, contrasts = "treatment", weights = NULL, ...) {
  m <- fit(formula, weights = weights, ...)
  tables <- lapply(list(type1 = "1", type2 = "2", type3 = "3"), function(t) table_of(anova(m, type = t)))
  if (is.null(weights)) tables$kenward_roger <- table_of(anova(m, type = 3, ddf = "Kenward-Roger"))
  anovas[[length(anovas) + 1]] <<- list(formula = formula, contrasts = contrasts, weighted = !is.null(weights), tables = tables)
}
for (f in formulas) add(f)
add(formulas[1], weights = d$w)
options(contrasts = c("contr.sum", "contr.poly"))
for (f in formulas[c(1, 3, 4, 5, 13)]) add(f, "sum")
options(contrasts = c("contr.helmert", "contr.poly"))
for (f in formulas[c(2, 3)]) add(f, "helmert")
options(contrasts = c("contr.treatment", "contr.poly"))
write_json(anovas, "anova.json", digits = NA, auto_unbox = TRUE, na = "string")

unorder <- function(data) { for (v in names(data)) if (is.factor(data[[v]])) data[[v]] <- factor(as.character(data[[v]]), levels = levels(data[[v]])); as.data.frame(data) }
cake <- unorder(lme4::cake); cake$tempf <- factor(cake$temp)
Oats <- unorder(nlme::Oats); Orthodont <- unorder(nlme::Orthodont); Machines <- unorder(nlme::Machines)
sets <- list(cake = cake, Oats = Oats, Orthodont = Orthodont, Machines = Machines, unbalanced = d)
frame <- function(s) { f <- as.data.frame(s); lapply(f, function(v) if (is.factor(v)) as.character(v) else v) }
cases <- list()
em <- function(id, data, formula, specs, by = NULL, at = NULL, contr = NULL, adjust = NULL, weights = "equal", custom = NULL, ...) {
  for (ddf in c("satterthwaite", "kenward-roger")) {
    emm_options(lmer.df = ddf, pbkrtest.limit = 5000, lmerTest.limit = 5000)
    m <- fit(formula, sets[[data]])
    args <- list(m, specs, weights = weights, data = sets[[data]])
    if (!is.null(by)) args$by <- by
    if (!is.null(at)) args$at <- at
    e <- suppressMessages(do.call(emmeans, args))
    out <- list(id = id, data = data, formula = formula, specs = I(specs), by = if (is.null(by)) NULL else I(by), at = at, contr = contr,
                adjust = adjust, weights = weights, custom = custom, ddf = ddf, emmeans = frame(summary(e, infer = c(TRUE, FALSE))))
    method <- if (is.null(custom)) contr else custom
    if (!is.null(method)) {
      k <- contrast(e, method = method)
      a <- list(k, infer = c(TRUE, TRUE)); if (!is.null(adjust)) a$adjust <- adjust
      out$contrasts <- frame(suppressMessages(do.call(summary, a)))
    }
    cases[[length(cases) + 1]] <<- out
  }
}
trend <- function(id, data, formula, specs, var, contr = NULL, at = NULL) {
  for (ddf in c("satterthwaite", "kenward-roger")) {
    emm_options(lmer.df = ddf)
    m <- fit(formula, sets[[data]])
    args <- list(m, specs, var = var, data = sets[[data]])
    if (!is.null(at)) args$at <- at
    e <- suppressMessages(do.call(emtrends, args))
    out <- list(id = id, data = data, formula = formula, specs = I(specs), var = var, at = at, contr = contr, ddf = ddf,
                emmeans = frame(summary(e, infer = c(TRUE, FALSE))))
    if (!is.null(contr)) out$contrasts <- frame(suppressMessages(summary(contrast(e, contr), infer = c(TRUE, TRUE))))
    cases[[length(cases) + 1]] <<- out
  }
}
cakef <- "angle ~ recipe * tempf + (1 | recipe:replicate)"
em("cake recipe", "cake", cakef, "recipe", contr = "pairwise")
em("cake temperature", "cake", cakef, "tempf", contr = "poly")
em("cake temperature vs first", "cake", cakef, "tempf", contr = "trt.vs.ctrl")
em("cake recipe by temperature", "cake", cakef, "recipe", by = "tempf", contr = "pairwise")
oats <- "yield ~ nitro * Variety + (1 | Block/Variety)"
em("oats at", "Oats", oats, c("Variety", "nitro"), at = list(nitro = c(0, .6)))
em("oats by nitro", "Oats", oats, "Variety", by = "nitro", at = list(nitro = c(0, .6)), contr = "pairwise", adjust = "holm")
trend("oats slopes", "Oats", oats, "Variety", "nitro", "pairwise")
orth <- "distance ~ age * Sex + (age | Subject)"
em("orthodont at", "Orthodont", orth, "Sex", by = "age", at = list(age = c(8, 14)), contr = "trt.vs.ctrl")
trend("orthodont slopes", "Orthodont", orth, "Sex", "age", "pairwise")
trend("orthodont curve", "Orthodont", "distance ~ poly(age, 2) * Sex + (1 | Subject)", "Sex", "age", at = list(age = 9))
mach <- "score ~ Machine + (1 | Worker/Machine)"
for (a in c("tukey", "holm", "bonferroni", "sidak", "none")) em(paste("machines", a), "Machines", mach, "Machine", contr = "pairwise", adjust = a)
em("machines custom", "Machines", mach, "Machine", custom = list(`BC - A` = c(-1, .5, .5), `B - C` = c(0, 1, -1)))
un <- "y ~ a * b + c + x * b + i + (1 | g)"
em("unbalanced", "unbalanced", un, "a", contr = "pairwise")
em("unbalanced proportional", "unbalanced", un, "a", contr = "pairwise", weights = "proportional")
em("unbalanced proportional two", "unbalanced", "y ~ a + b * c + x + (1 | g)", "a", weights = "proportional")
em("unbalanced both", "unbalanced", un, c("a", "b"), contr = "pairwise")
em("unbalanced two-valued covariate", "unbalanced", un, c("i"), contr = "pairwise")
em("unbalanced functions", "unbalanced", "y ~ a + log(x + 3) + I(z^2) + z + (1 | g)", "a", contr = "trt.vs.ctrl", adjust = "bonferroni")
em("unbalanced empty cell", "unbalanced", "y ~ a * c2 + (1 | g)", c("a", "c2"))
em("unbalanced marginal of empty cell", "unbalanced", "y ~ a * c2 + (1 | g)", "a", contr = "pairwise")
em("unbalanced nested", "unbalanced", "y ~ a / nb + x + (1 | g)", "a", contr = "pairwise")
em("unbalanced nested proportional", "unbalanced", "y ~ a / nb + x + (1 | g)", "a", contr = "pairwise", weights = "proportional")
em("unbalanced nested both", "unbalanced", "y ~ a / nb + x + (1 | g)", c("nb", "a"))
for (w in c("outer", "cells", "flat")) em(paste("unbalanced", w), "unbalanced", un, "a", contr = "pairwise", weights = w)
em("unbalanced outer two", "unbalanced", "y ~ a + b * c + x + (1 | g)", "a", weights = "outer")
em("unbalanced cells two", "unbalanced", "y ~ a + b * c + x + (1 | g)", "a", by = "b", weights = "cells")
em("unbalanced flat empty cell", "unbalanced", "y ~ a + c2 + x + (1 | g)", "a", weights = "flat")
for (a in c("mvt", "scheffe", "fdr")) {
  em(paste("machines", a), "Machines", mach, "Machine", contr = "pairwise", adjust = a)
  em(paste("machines vs first", a), "Machines", mach, "Machine", contr = "trt.vs.ctrl", adjust = a)
  em(paste("cake temperature", a), "cake", cakef, "tempf", contr = "trt.vs.ctrl", adjust = a)
  em(paste("unbalanced", a), "unbalanced", un, "c", by = "b", contr = "pairwise", adjust = a)
}
trend("unbalanced slopes", "unbalanced", un, "b", "x", "pairwise")
write_json(cases, "emmeans.json", digits = NA, auto_unbox = TRUE, na = "string", null = "null")
