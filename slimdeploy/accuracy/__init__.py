"""One evaluation loop over any Session, and the scorers that judge its boxes."""
