//! Walks a configuration: finds the row of each directive, follows includes, collects what is wrong.

use weir_master::settings::Place;

use super::directive::{self, Contexts, Directive, MAIN};
use super::draft::Draft;
use super::error::Fault;
use super::known;
use super::lexer::{Lexer, Token};
use super::source::Source;

/// Blocks and includes within one another, both together.
const DEEPEST: usize = 100;
/// Files included in all, each as often as it is included.
const MOST_INCLUDES: usize = 100_000;
/// Unknown directives that are listed.
const MOST_LISTED: usize = 1000;

/// A directive as it stands in a file.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name, then the parameters.
    words: Vec<String>,
    /// Where it ends, as nginx names it.
    place: Option<Place>,
    /// The block that it stands in.
    pub context: Contexts,
}

impl Call {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.words[0]
    }

    /// Its parameters.
    pub fn values(&self) -> &[String] {
        &self.words[1..]
    }

    /// The first parameter.
    pub fn value(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// Where it stands; the command line is a file of that name.
    pub fn place(&self) -> Place {
        self.place.clone().unwrap_or_else(|| Place {
            file: "command line".into(),
            line: 1,
        })
    }

    /// A fault here.
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        match &self.place {
            Some(place) => Fault::at(place.clone(), message),
            None => Fault::in_command_line(message),
        }
    }

    /// A fault here that begins with `"name" directive`.
    pub fn blame(&self, reason: &str) -> Fault {
        self.fault(format!("\"{}\" directive {reason}", self.name()))
    }

    /// A fault of one of the parameters.
    pub fn invalid_parameter(&self, parameter: &str) -> Fault {
        self.fault(format!("invalid parameter \"{parameter}\""))
    }
}

/// What the parser is in: it decides which end is right.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    File,
    Block,
    Parameter,
}

/// Handles what stands in a block whose content is no directives, such as `types {}`.
pub type Content = fn(&mut Parser, &Call) -> Result<(), Fault>;

/// A file that is being read.
struct Reading {
    path: String,
    lexer: Lexer,
}

/// The state of a walk.
pub struct Parser {
    /// The files.
    pub source: Source,
    /// What is known so far.
    pub draft: Draft,
    /// `[warn]` lines.
    pub warnings: Vec<Fault>,
    files: Vec<Reading>,
    depth: usize,
    includes: usize,
    /// A `{` was read and nobody has taken its content yet.
    pending_block: bool,
    /// The rest cannot be read.
    is_broken: bool,
    content: Option<Content>,
    unknown: Vec<Fault>,
    unlisted: usize,
    /// The first fault that is not an unknown directive, and how many of those came before it.
    fault: Option<(usize, Fault)>,
}

impl Parser {
    /// Reads everything; what is wrong is kept, see [`Parser::verdict`].
    pub fn run(source: Source) -> Parser {
        let mut parser = Parser {
            draft: Draft::default(),
            source,
            warnings: Vec::new(),
            files: Vec::new(),
            depth: 0,
            includes: 0,
            pending_block: false,
            is_broken: false,
            content: None,
            unknown: Vec::new(),
            unlisted: 0,
            fault: None,
        };
        let read = parser.read_all();
        if let Err(fault) = read {
            parser.note(fault);
        }
        parser
    }

    fn read_all(&mut self) -> Result<(), Fault> {
        if let Some(directives) = self.source.paths().directives.clone() {
            let lexer = Lexer::parameter(&directives);
            self.files.push(Reading {
                path: String::new(),
                lexer,
            });
            self.walk(MAIN, Within::Parameter)?;
            self.files.pop();
        }
        let path = self.source.paths().file.clone();
        let bytes = self.source.read(&path).map_err(Fault::whole)?;
        self.files.push(Reading {
            path,
            lexer: Lexer::file(bytes),
        });
        self.walk(MAIN, Within::File)?;
        self.files.pop();
        Ok(())
    }

    /// Everything that is wrong, in the order of the files; at most one fault beside the unknown
    /// directives, as whatever follows the first may follow from it.
    pub fn verdict(&mut self) -> Result<(), Vec<Fault>> {
        if self.unknown.is_empty() && self.fault.is_none() {
            return Ok(());
        }
        let mut faults = std::mem::take(&mut self.unknown);
        if self.unlisted > 0 {
            faults.push(Fault::whole(format!(
                "{} more unknown directives",
                self.unlisted
            )));
        }
        if let Some((before, fault)) = self.fault.take() {
            faults.insert(before.min(faults.len()), fault);
        }
        Err(faults)
    }

    /// Keeps the first fault.
    pub fn note(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some((self.unknown.len(), fault));
        }
    }

    /// The directives of the block that a directive opens.
    pub fn block(&mut self, context: Contexts) -> Result<(), Fault> {
        self.pending_block = false;
        let content = self.content.take();
        let done = self.deeper(|parser| parser.walk(context, Within::Block));
        self.content = content;
        done
    }

    /// The content of a block of another kind.
    pub fn block_of(&mut self, context: Contexts, content: Content) -> Result<(), Fault> {
        self.pending_block = false;
        let before = self.content.replace(content);
        let done = self.deeper(|parser| parser.walk(context, Within::Block));
        self.content = before;
        done
    }

    /// `include`
    pub fn include(&mut self, call: &Call) -> Result<(), Fault> {
        let paths = self
            .source
            .include(call.value())
            .map_err(|message| call.fault(message))?;
        for path in paths {
            self.includes += 1;
            if self.includes > MOST_INCLUDES {
                return Err(call.fault(format!("more than {MOST_INCLUDES} included files")));
            }
            if self.files.iter().any(|reading| reading.path == path) {
                return Err(call.fault(format!("\"{path}\" includes itself")));
            }
            let bytes = self
                .source
                .read(&path)
                .map_err(|message| call.fault(message))?;
            self.files.push(Reading {
                path,
                lexer: Lexer::file(bytes),
            });
            self.deeper(|parser| parser.walk(call.context, Within::File))?;
            self.files.pop();
        }
        Ok(())
    }

    fn deeper(&mut self, walk: impl FnOnce(&mut Parser) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.depth == DEEPEST {
            return Err(self.broken("blocks and includes are nested too deeply"));
        }
        self.depth += 1;
        let done = walk(self);
        self.depth -= 1;
        done
    }

    /// Reads to the end of the block or file. A fault of a directive is noted and the walk goes on,
    /// to list unknown directives; what is returned cannot be gone on from.
    fn walk(&mut self, context: Contexts, within: Within) -> Result<(), Fault> {
        loop {
            let (words, opened) = match self.token()? {
                Token::Directive(words) => (words, false),
                Token::Block(_) if within == Within::Parameter => {
                    return Err(self.broken("block directives are not supported in -g option"));
                }
                Token::Block(_) if self.content.is_some() => {
                    return Err(self.broken("unexpected \"{\""));
                }
                Token::Block(words) => (words, true),
                Token::BlockEnd if within == Within::Block => return Ok(()),
                Token::BlockEnd => return Err(self.broken("unexpected \"}\"")),
                Token::End if within == Within::Block => {
                    return Err(self.broken("unexpected end of file, expecting \"}\""));
                }
                Token::End => return Ok(()),
            };
            let call = Call {
                words,
                place: self.place(),
                context,
            };
            self.pending_block = opened;
            if let Err(fault) = self.carry_out(&call, opened) {
                if self.is_broken {
                    return Err(fault);
                }
                self.note(fault);
            }
            if std::mem::take(&mut self.pending_block) {
                self.skip_block(&call)?;
            }
        }
    }

    fn carry_out(&mut self, call: &Call, opened: bool) -> Result<(), Fault> {
        if let Some(content) = self.content {
            return content(self, call);
        }
        let mut rows = directive::all()
            .filter(|row| row.name == call.name())
            .peekable();
        if rows.peek().is_none() {
            self.list_unknown(call);
            return Ok(());
        }
        let Some(row) = rows.find(|row| row.contexts.meets(call.context)) else {
            return Err(call.blame("is not allowed here"));
        };
        check_arity(row, call, opened)?;
        row.set.apply(self, call)
    }

    fn list_unknown(&mut self, call: &Call) {
        if self.unknown.len() == MOST_LISTED {
            self.unlisted += 1;
            return;
        }
        let name = call.name();
        let fault = call.fault(format!("unknown directive \"{name}\""));
        self.unknown.push(fault.with_note(known::note(name)));
    }

    /// Passes over the content of a block that nobody read.
    fn skip_block(&mut self, call: &Call) -> Result<(), Fault> {
        let mut open = 1_usize;
        if is_lua(call.name()) {
            self.skip_lua()?;
            open -= 1;
        }
        while open > 0 {
            match self.token()? {
                Token::Directive(_) => {}
                Token::Block(words) if is_lua(&words[0]) => self.skip_lua()?,
                Token::Block(_) => open += 1,
                Token::BlockEnd => open -= 1,
                Token::End => {
                    return Err(self.broken("unexpected end of file, expecting \"}\""));
                }
            }
        }
        Ok(())
    }

    fn skip_lua(&mut self) -> Result<(), Fault> {
        match self
            .files
            .last_mut()
            .map(|reading| reading.lexer.skip_lua())
        {
            Some(Err(message)) => Err(self.broken(&message)),
            _ => Ok(()),
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        match self.files.last_mut().map(|reading| reading.lexer.next()) {
            Some(Ok(token)) => Ok(token),
            Some(Err(message)) => Err(self.broken(&message)),
            None => Ok(Token::End),
        }
    }

    fn place(&self) -> Option<Place> {
        let reading = self.files.last()?;
        let place = Place {
            file: reading.path.clone(),
            line: reading.lexer.line(),
        };
        (!reading.lexer.is_parameter()).then_some(place)
    }

    /// A fault at the line reached.
    pub fn here(&self, message: &str) -> Fault {
        match self.place() {
            Some(place) => Fault::at(place, message),
            None => Fault::in_command_line(message),
        }
    }

    /// A fault after which the rest cannot be read.
    fn broken(&mut self, message: &str) -> Fault {
        self.is_broken = true;
        self.here(message)
    }
}

fn is_lua(name: &str) -> bool {
    name.ends_with("_by_lua_block")
}

fn check_arity(row: &Directive, call: &Call, opened: bool) -> Result<(), Fault> {
    let name = row.name;
    if opened && !row.arity.block {
        return Err(call.fault(format!("directive \"{name}\" is not terminated by \";\"")));
    }
    if !opened && row.arity.block {
        return Err(call.fault(format!("directive \"{name}\" has no opening \"{{\"")));
    }
    if !(row.arity.least..=row.arity.most).contains(&call.values().len()) {
        return Err(call.fault(format!(
            "invalid number of arguments in \"{name}\" directive"
        )));
    }
    Ok(())
}
