"""The command line: parse, load artefacts, call a stage, save its artefact, show the result. Nothing imports this room."""
