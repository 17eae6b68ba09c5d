#!/usr/bin/perl
# reStructuredText files, whose paths are on standard input -> documents of plain text: one file
# each, one paragraph a line, a blank line between files. Left out: literal blocks, tables,
# directives, diagrams and paragraphs that are not prose.
use strict;
use warnings;

sub inline_markup {
  my ($s) = @_;
  $s =~ s/\s+/ /g;
  $s =~ s/:[a-z:+-]+:`([^`<]*?)\s*(?:<[^>]*>)?`/$1/g;
  $s =~ s/`([^`<]*?)\s*<[^>]*>`__?/$1/g;
  $s =~ s/``?([^`]*)``?_{0,2}/$1/g;
  $s =~ s/\*\*([^*]+)\*\*/$1/g;
  $s =~ s/(?<!\w)\*([^*\s][^*]*)\*/$1/g;
  $s =~ s/\\([*_|`: ])/$1/g;
  $s =~ s/ ?\[[#\d*\w]*\]_//g;
  $s =~ s/::\s*$/:/;
  $s =~ s/[^\x20-\x7e]+//g;
  $s =~ s/^ *(?:[-*+o] |\(?[0-9a-z]{1,2}[.)] )? *//;
  $s =~ s/ +$//;
  return $s;
}

# Prose: mostly letters and spaces, several words, no table rules.
sub is_prose {
  my ($s) = @_;
  return 0 if length $s < 25 || $s =~ /[-=|+]{4}|\|.*\|/;
  my $letters = $s =~ tr/a-zA-Z ,.//;
  return $letters > 0.86 * length($s) && ($s =~ tr/ //) >= 4;
}

my %seen;
while (my $path = <STDIN>) {
  chomp $path;
  open my $f, '<', $path or die "$path: $!\n";
  my (@out, @paragraph);
  my $skip_above = -1; # lines indented deeper belong to a literal block or a directive
  my $flush = sub {
    my $raw = join ' ', @paragraph;
    my $opens = @paragraph && $paragraph[-1] =~ /::$/;
    my $indent = @paragraph && $paragraph[0] =~ /^( *)/ ? length $1 : 0;
    my $text = inline_markup($raw);
    push @out, $text if is_prose($text) && !$seen{$text}++;
    $skip_above = $indent if $opens;
    @paragraph = ();
  };
  while (my $line = <$f>) {
    $line =~ s/\t/        /g;
    $line =~ s/\s+$//;
    if ($line eq '') { $flush->(); next; }
    my ($indent) = $line =~ /^( *)/;
    $indent = length $indent;
    if ($skip_above >= 0) {
      next if $indent > $skip_above;
      $skip_above = -1;
    }
    if ($line =~ /^ *\.\. /) {
      $flush->();
      # The text of these directives is prose; that of the others is not.
      $skip_above = $indent unless $line =~ /^ *\.\. (?:note|warning|important|tip|caution|hint|attention)::/i;
      next;
    }
    if ($line =~ /^ *([=~"'`^*+#.:_-])\1{2,}[ =-]*$/) { # underline of a title
      my $title = @paragraph ? inline_markup(join ' ', @paragraph) : '';
      push @out, $title if length $title > 3 && $title =~ /[a-z]/ && !$seen{$title}++;
      @paragraph = ();
      next;
    }
    next if $line =~ /^ *:[\w -]+:(?: |$)/;
    $flush->() if @paragraph && $line =~ /^ *(?:[-*+o] |\(?[0-9a-z]{1,2}[.)] )/;
    push @paragraph, $line;
  }
  $flush->();
  close $f;
  print join("\n", @out), "\n\n" if @out > 1;
}
