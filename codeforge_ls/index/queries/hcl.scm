(block (identifier) (string_lit (template_literal) @name) . (block_start)) @definition.struct
(block (identifier) @name . (block_start)) @definition.module
(function_call (identifier) @reference.call)
