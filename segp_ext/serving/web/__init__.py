"""A learner as a service: answers over HTTP, and the page that comes with it. Needs the extra `serve`.

- `app`: the endpoints; `server`: the socket, the connections and their time-outs.
- `access`: who may ask; `limits`: how much may be sent and be in hand; `metrics`: what Prometheus reads.
- `uploads`: the images that a request brings; `batching`: images that arrive together pass through the model together.
- `learner_watch`: the learner on disk, which replaces the one that answers when it changes.
- `learning`: a class that is learnt behind the answers; `commands`: the programs that change the learner on disk.
- `page`: the page, of `page.html`, `page.css` and `page.js`.
"""
