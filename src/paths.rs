//! Where things are unless the command line or the configuration says otherwise, as nginx's
//! `configure` has it: fixed when weir is built, by environment variables, which a package sets to the
//! places of its distribution. What does not begin with `/` is below the prefix.

/// `$variable` when weir was built, else `$default`.
macro_rules! fixed {
    ($variable:literal, $default:literal) => {
        match option_env!($variable) {
            Some(path) => path,
            None => $default,
        }
    };
}

/// `WEIR_PREFIX`: the folder that relative paths start from.
pub const PREFIX: &str = fixed!("WEIR_PREFIX", "/usr/local/weir");
/// `WEIR_CONF_PATH`: the configuration.
pub const CONFIGURATION: &str = fixed!("WEIR_CONF_PATH", "conf/weir.conf");
/// `WEIR_ERROR_LOG_PATH`: the log of a configuration that names none.
pub const ERROR_LOG: &str = fixed!("WEIR_ERROR_LOG_PATH", "logs/error.log");
/// `WEIR_HTTP_LOG_PATH`: the access log of a configuration that names none.
pub const ACCESS_LOG: &str = fixed!("WEIR_HTTP_LOG_PATH", "logs/access.log");
/// `WEIR_PID_PATH`: the process id of the master.
pub const PID: &str = fixed!("WEIR_PID_PATH", "logs/weir.pid");

/// What was chosen when weir was built, as the arguments of nginx's `configure`.
pub fn arguments() -> String {
    let mut arguments = format!("--prefix={PREFIX}");
    for (name, chosen) in [
        ("conf-path", option_env!("WEIR_CONF_PATH")),
        ("error-log-path", option_env!("WEIR_ERROR_LOG_PATH")),
        ("http-log-path", option_env!("WEIR_HTTP_LOG_PATH")),
        ("pid-path", option_env!("WEIR_PID_PATH")),
    ] {
        if let Some(path) = chosen {
            arguments.push_str(&format!(" --{name}={path}"));
        }
    }
    arguments
}
