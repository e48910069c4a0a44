"""The words of the product: frozen models, enums and errors. No input or output happens here."""
