;; A command that never comes back, if it is let.
(module
  (func (export "run") (param i64) (result i64)
    (loop $again (br $again))
    (i64.const 0)))
