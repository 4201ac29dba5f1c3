"""What builds the site: public names by introspection, pages made from them, Sphinx's hook."""
