//! A server as the command line names it: `NAME=URL [COMMAND]`.

/// Where a server is, and how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// For tables and file names.
    pub name: String,
    /// Without `/v1` and without a slash at its end.
    pub url: String,
    /// The program and its arguments; empty if it is running already.
    pub command: Vec<String>,
}

impl Server {
    /// The one of `--url`.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn running(url: &str) -> Result<Self, String> {
        Ok(Self { name: "sterna".into(), url: base(url)?, command: Vec::new() })
    }
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is no server; write it as NAME=URL or NAME=URL COMMAND");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        // The name becomes part of a file's.
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!("{} (a name has letters, digits and ._- only)", form()));
        }
        let mut words = words(rest)?.into_iter();
        let url = base(&words.next().ok_or_else(form)?)?;
        Ok(Self { name: name.to_owned(), url, command: words.collect() })
    }
}

/// Refuses servers of the same name.
///
/// # Errors
/// Names it.
pub fn check_names(servers: &[Server]) -> Result<(), String> {
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(*name));
    twice.map_or(Ok(()), |(_, name)| {
        Err(format!("two servers are named {name}; give each a name of its own"))
    })
}

/// What comes before `/v1/completions`.
fn base(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    let base = url.strip_suffix("/v1").unwrap_or(url);
    let host = base.strip_prefix("http://").unwrap_or_default();
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(format!(
            "{url:?} is no address of a server; write it like http://127.0.0.1:8000 (https is not \
             spoken here)"
        ));
    }
    Ok(base.to_owned())
}

/// Splits a command as a shell would: at spaces that are not quoted. Nothing is expanded.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = chars.next().ok_or("a command ends in a lone backslash")?;
                // Between double quotes a backslash stands for itself, but before these.
                if quote.is_some() && !"\\\"$`".contains(next) {
                    word.get_or_insert_default().push('\\');
                }
                word.get_or_insert_default().push(next);
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a command opens a quote {open} that it does not close: {text}"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_a_url_and_maybe_a_command() {
        let server: Server = "sterna=http://127.0.0.1:8000/v1/".parse().unwrap();
        assert_eq!(
            (server.name.as_str(), server.url.as_str()),
            ("sterna", "http://127.0.0.1:8000")
        );
        assert!(server.command.is_empty());
        let text = "llama-server=http://h:8090 llama-server -m 'my model.gguf' --args=a=b -np 16";
        let server: Server = text.parse().unwrap();
        let command = ["llama-server", "-m", "my model.gguf", "--args=a=b", "-np", "16"];
        assert_eq!(
            (server.url.as_str(), server.command),
            ("http://h:8090", command.map(String::from).to_vec())
        );
        assert_eq!(Server::running("http://h:1/").unwrap().url, "http://h:1");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (text, says) in [
            ("http://127.0.0.1:8000", "NAME=URL"),
            ("a b=http://h", "letters, digits"),
            ("../x=http://h", "letters, digits"),
            ("=http://h", "letters, digits"),
            ("a=", "NAME=URL"),
            ("a=https://h", "https is not spoken"),
            ("a=h:80 cmd", "no address"),
            ("a=http://", "no address"),
            ("a=http://h 'cmd", "does not close"),
            ("a=http://h cmd\\", "lone backslash"),
        ] {
            let error = text.parse::<Server>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let twice: Vec<Server> =
            ["a=http://h", "b=http://h", "a=http://i"].map(|s| s.parse().unwrap()).to_vec();
        assert!(check_names(&twice).unwrap_err().contains("named a;"));
        assert_eq!(check_names(&twice[..2]), Ok(()));
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let of = |text: &str| words(text).unwrap();
        assert_eq!(of("  a\tb  c "), ["a", "b", "c"]);
        assert_eq!(
            of(r#"a "b c" d\ e 'f "g"' "h \" \n""#),
            ["a", "b c", "d e", "f \"g\"", "h \" \\n"]
        );
        assert_eq!(of("a'b'\"c\" ''"), ["abc", ""]);
        assert_eq!(of(r"'a\b' $HOME *"), [r"a\b", "$HOME", "*"]);
        assert!(of("").is_empty());
    }
}
