# lme4 or lmerTest on one case: Rscript lme4.R settings.json result.json
# Reading the data is not timed.  The summary is timed as a stage of its own: with lmerTest it
# holds Satterthwaite's degrees of freedom.
suppressWarnings(suppressMessages(library(jsonlite)))
arguments <- commandArgs(trailingOnly = TRUE)
settings <- fromJSON(arguments[1])

finish <- function(result) {
  write(toJSON(result, auto_unbox = TRUE, digits = NA, null = "null"), arguments[2])
  quit(save = "no")
}

status <- function(key) {
  line <- grep(paste0("^", key), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024
}

read_case <- function(folder) {
  record <- fromJSON(file.path(folder, "case.json"), simplifyDataFrame = FALSE)
  n <- record$rows
  columns <- lapply(record$columns, function(column) {
    path <- file.path(folder, paste0(column$name, ".", column$kind))
    switch(column$kind,
      f64 = readBin(path, "double", n, endian = "little"),
      i64 = readBin(path, "integer", n, size = 8, endian = "little"),
      cat = structure(readBin(path, "integer", n, size = 4, endian = "little") + 1L,
                      levels = as.character(unlist(column$categories)), class = "factor"))
  })
  names(columns) <- vapply(record$columns, function(column) column$name, "")
  list(record = record, data = as.data.frame(columns))
}

if (!suppressWarnings(suppressMessages(require(settings$library, character.only = TRUE, quietly = TRUE)))) {
  finish(list(status = "not installed", detail = paste("no R package", settings$library)))
}
lmer <- getExportedValue(settings$library, "lmer")
versions <- list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
                 BLAS = basename(extSoftVersion()[["BLAS"]]))
if (settings$library == "lmerTest") versions$lmerTest <- as.character(packageVersion("lmerTest"))

rss_imports <- status("VmRSS")
case <- read_case(settings$data)
data <- case$data
formula <- as.formula(case$record$model$formula)
invisible(gc())
rss_ready <- status("VmRSS")
try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)

one_fit <- function() {
  invisible(gc())
  fit_time <- system.time(fit <- suppressWarnings(suppressMessages(lmer(formula, data, REML = settings$reml))))
  summary_time <- system.time(invisible(capture.output(print(suppressMessages(summary(fit)), correlation = FALSE))))
  total <- fit_time + summary_time
  kind <- if (settings$reml) "REML" else "ML"
  list(seconds = total[["elapsed"]], cpu = total[["user.self"]] + total[["sys.self"]],
       criterion = -2 * as.numeric(logLik(fit)), kind = kind,
       stages = list(lmer = fit_time[["elapsed"]], summary = summary_time[["elapsed"]]),
       evaluations = fit@optinfo$feval, converged = length(fit@optinfo$conv$lme4$messages) == 0)
}

result <- tryCatch({
  first <- one_fit()
  peak <- status("VmHWM")
  cold <- first$seconds > settings$slow
  runs <- if (cold) list(first) else lapply(seq_len(settings$repeats), function(i) one_fit())
  list(status = "ok", runs = runs, cold = cold, first_seconds = first$seconds, versions = versions,
       rss_imports = rss_imports, rss_ready = rss_ready, rss_peak = peak)
}, error = function(err) list(status = "error", detail = conditionMessage(err), versions = versions))
finish(result)
