//! Watching tokens: server-sent events in a chunked answer (RFC 9112, section 7.1).

use super::{Client, Problem, lost, odd, parse};
use crate::error::Result;
use crate::vault::{GrantOn, WatchedToken};
use std::io::Read;

/// No chunk of the agent's is as long.
const MAX_CHUNK: usize = 1 << 20;

impl Client {
    /// Tells `each` of these tokens: first how each is and then `None`, from then on whenever one is another. Comes back when `each` says `false`, or
    /// when the agent ends it, as it does after a while and when it stops: then it is to be asked again, on a connection of
    /// its own.
    ///
    /// # Errors
    /// The agent's, and those of `each`.
    pub fn watch(
        &mut self,
        on: &[GrantOn],
        each: &mut dyn FnMut(Option<WatchedToken>) -> Result<bool>,
    ) -> Result<()> {
        let query: Vec<_> = on.iter().map(|on| ("on", on.to_string())).collect();
        self.request("GET", "/v1/watch", &query, None)?;
        let (mut response, length) = self.head()?;
        if response.status != 200 {
            let length = length.filter(|length| *length <= MAX_CHUNK);
            response.body.resize(length.ok_or_else(|| odd("no sound length").with_target(&self.on))?, 0);
            self.stream.read_exact(&mut response.body).map_err(|e| lost(&e, &self.on))?;
            return Err(parse::<Problem>(&response.body)?.into_error());
        }
        let mut pending = String::new();
        while let Some(chunk) = self.chunk()? {
            pending += &String::from_utf8_lossy(&chunk);
            while let Some((event, rest)) = pending.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let kind = event.lines().find_map(|line| line.strip_prefix("event: "));
                let news = match (kind, data) {
                    (Some("token"), Some(data)) => Some(Some(parse(data.as_bytes())?)),
                    (Some("all"), _) => Some(None),
                    _ => None,
                };
                pending = rest.to_owned();
                if let Some(news) = news
                    && !each(news)?
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next piece of an answer; `None` at its end.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.trim(), 16).ok().filter(|length| *length <= MAX_CHUNK);
        let length = length.ok_or_else(|| odd("no sound length").with_target(&self.on))?;
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).map_err(|e| lost(&e, &self.on))?;
        self.line()?;
        Ok((length > 0).then_some(chunk))
    }
}
