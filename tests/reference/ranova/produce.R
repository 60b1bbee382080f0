# Deletions of random terms by lmerTest, for tests/inference/test_ranova_rules.py.
# Run in this folder: Rscript produce.R; writes ranova.csv and ranova.json.
suppressMessages({library(lmerTest); library(jsonlite)})
d <- read.csv("../emmeans/unbalanced.csv", stringsAsFactors=TRUE); d$g <- factor(d$g)
set.seed(3); s1=rnorm(20); s2=rnorm(20); d$y <- d$y + .4*s1[d$g]*d$x + s2[d$g]*(d$a=="q"); 
write.csv(d,"ranova.csv",row.names=FALSE)
forms <- c("y ~ x + (x | g)", "y ~ x + (0 + x | g)", "y ~ a + x + (0 + a | g)", "y ~ a + x + (a | g)", "y ~ a + x + (a + x | g)", "y ~ a + x + (0 + a + x | g)","y ~ a * x + (a * x | g)", "y ~ x + (x || g)", "y ~ x + z + (x + z | g)", "y ~ x + (1 | g) + (1 | c)", "y ~ x + (0 + x + z | g)", "y ~ x + (x | g) + (0 + z | c)","y ~ x + (a:x | g)","y~x+b+(1|g/b)","y ~ x + (0 + a:b | g)", "y ~ x + (-1 + x | g) + (1 | c)", "y ~ x + (poly(x, 2) | g)", "y ~ x + (1 + x + I(x^2) | g)")
out <- list()
for (f in forms) for (reduce in c(TRUE, FALSE)) {
 m <- suppressMessages(suppressWarnings(lmerTest::lmer(as.formula(f), d, control=lmerControl(optimizer="bobyqa", optCtrl=list(rhoend=1e-9,maxfun=1e5), calc.derivs=FALSE))))
 t <- tryCatch(suppressMessages(suppressWarnings(ranova(m, reduce.terms=reduce))), error=function(e) NULL)
 if (is.null(t)) next
 out[[length(out)+1]] <- list(formula=f, reduce=reduce, rows=I(rownames(t)), npar=t$npar, llf=t$logLik, aic=t$AIC, lrt=t$LRT, df=t$Df, p=t[["Pr(>Chisq)"]])
}
write_json(out, "ranova.json", digits=NA, auto_unbox=TRUE, na="string")
