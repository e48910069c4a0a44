(call target: (identifier) @_keyword (#match? @_keyword "^(defmodule|defimpl)$") (arguments (alias) @name)) @definition.module
(call target: (identifier) @_keyword (#eq? @_keyword "defprotocol") (arguments (alias) @name)) @definition.interface
(call target: (identifier) @_keyword (#match? @_keyword "^(def|defp|defguard|defguardp|defdelegate|defn|defnp)$") (arguments [(identifier) @name (call target: (identifier) @name) (binary_operator left: (call target: (identifier) @name))])) @definition.function
(call target: (identifier) @_keyword (#match? @_keyword "^(defmacro|defmacrop)$") (arguments [(identifier) @name (call target: (identifier) @name) (binary_operator left: (call target: (identifier) @name))])) @definition.macro
(call target: (identifier) @reference.call (#not-match? @reference.call "^(def.*|alias|import|require|use|if|unless|case|cond|with|for|do|quote|unquote|raise|fn)$"))
(call target: (dot right: (identifier) @reference.call))
(call target: (dot left: (alias) @reference.type))
(struct (alias) @reference.type)
(call target: (identifier) @_keyword (#match? @_keyword "^(alias|import|require|use)$") (arguments . (alias) @import))
