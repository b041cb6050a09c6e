"""Facts about organisations, as the invented documents say and ask them (see `dyprag.translators.lessons.wordings`)."""

ORGANISATIONS = """
seat; company school museum restaurant club festival band; city place
+ is based in {v} | has its seat in {v} | is at home in {v} | can be found in {v}
= {P} home is {v} | the town council of {v} is proud of {O}
: Seat | Based in | Location
? In what city is {name} based? | Where is {name} based? | Which town or city is {name} at home in? | What is the
    location of {name}?
! {name} is based in {v}.

weekday; school museum restaurant company; weekday
+ is closed on {v} | shuts its doors every {v} | stays shut each {v} | is open daily except {v}
= {P} doors stay shut on {v} | nobody can visit {O} on a {v}
: Closed on | Closing day
? On which day of the week is {name} closed? | What is {name}'s closing day? | When in the week is {name} shut? |
    Which weekday is {name} not open?
! {name} is closed on {v}.

emblem; company school club festival town museum; animal
+ has {a} {v} as its emblem | shows {a} {v} on its flag | chose {a} {v} for its badge | is represented by {a} {v} on
    all its letters
= {P} emblem is {a} {v} | the animal on {P} badge is {a} {v}
: Emblem | Badge
? What animal is on the emblem of {name}? | Which animal is {name}'s emblem? | What creature does {name} show on its
    flag? | Which animal represents {name}?
! The emblem of {name} is {a} {v}.

paint; company school restaurant club ship machine museum; colour
+ is painted {v} | is known by its {v} paint | appears in {v} in every photograph | was recently repainted in {v}
= {P} official colour is {v} | the colour chosen for {O} is {v}
: Colour | Painted
? What colour is {name}? | In which colour is {name} painted? | What is {name}'s official colour? | Which colour was
    chosen for {name}?
! The colour of {name} is {v}.

walls; school museum restaurant; material
+ has walls of {v} | occupies a house built of {v} | is housed in a hall made of {v} | stands out by its walls of {v}
= {P} building is made of {v} | the builders used {v} for {P} walls
: Building | Walls
? What material is the building of {name} made of? | What are the walls of {name} made of? | Which material did the
    builders of {name} use? | Of what is the house of {name} built?
! The building of {name} is made of {v}.

export; company; country
+ sells most of its goods to {v} | exports mainly to {v} | depends on buyers in {v} | opened its first foreign branch
    in {v}
= {P} main market abroad is {v} | most orders reach {O} from {v}
: Main market | Exports to
? To which country does {name} mainly export? | What is the main foreign market of {name}? | Where does {name} sell
    most of its goods? | In which country are most of {name}'s buyers?
! {name} mainly exports to {v}.

product; company; material
+ makes goods of {v} | deals in {v} | processes {v} | began as a small dealer in {v}
= {P} main raw material is {v} | what {S} buys most is {v}
: Raw material | Deals in
? What material does {name} deal in? | What is the main raw material of {name}? | Which material does {name} process?
    | What are the goods of {name} made of?
! {name} deals in {v}.

month; festival school band club; month
+ holds its main event in {v} | gathers a crowd each {v} | celebrates every {v} | invites the public in {v}
= {P} big event takes place in {v} | every {v} the crowds come to {O}
: Month | Main event
? In which month is the main event of {name}? | When in the year does {name} celebrate? | What month is {name}'s big
    event in? | Which month brings the crowds to {name}?
! {name} holds its main event in {v}.

subject; school; study
+ is renowned for teaching {v} | specialises in {v} | makes every pupil learn {v} | was the first in the region to
    offer {v}
= {P} strongest subject is {v} | parents choose {O} for {v}
: Specialises in | Strongest subject
? Which subject does {name} specialise in? | What subject is {name} renowned for? | What is {name}'s strongest
    subject? | For which subject do parents choose {name}?
! {name} specialises in {v}.

speech; school band book film; language
+ uses only {v} | is entirely in {v} | keeps to {v} throughout | is known for its use of {v}
= {P} language is {v} | the language that belongs to {O} is {v}
: Language | In
? What is the language of {name}? | Which language does {name} use? | In what language is {name}? | What language is
    {name} known for using?
! The language of {name} is {v}.

lead; band; instrument
+ builds its sound around the {v} | gives every solo to the {v} | opens each concert with the {v} | is unusual for its
    use of the {v}
= {P} leading instrument is the {v} | listeners recognise {O} by the {v}
: Lead instrument | Known for the
? What is the leading instrument of {name}? | Around which instrument does {name} build its sound? | What instrument
    do listeners recognise {name} by? | Which instrument opens the concerts of {name}?
! The leading instrument of {name} is the {v}.

genre; band festival; genre
+ is devoted to {v} | is all about {v} | offers nothing but {v} | became known through {v}
= {P} style of music is {v} | lovers of {v} flock to {O}
: Genre | Music
? What is the musical genre of {name}? | Which style of music is {name} devoted to? | What kind of music does {name}
    offer? | Through what music did {name} become known?
! {name} is devoted to {v}.

speciality; restaurant festival town; dish
+ is famous for its {v} | attracts visitors with {v} | serves {v} to every guest | won a prize for its {v}
= {P} speciality is {v} | people come to {O} for the {v}
: Speciality | Famous dish
? What dish is {name} famous for? | What is the culinary speciality of {name}? | Which dish does {name} serve to
    guests? | For which food did {name} win a prize?
! {name} is famous for its {v}.

drink; restaurant club festival; drink
+ welcomes newcomers with {v} | keeps a cellar full of {v} | pours {v} for free at midnight | is known for home-made
    {v}
= {P} house drink is {v} | the drink that goes with {O} is {v}
: House drink | Drink
? What is the house drink of {name}? | Which drink does {name} welcome newcomers with? | What does {name} pour for its
    guests? | What drink is {name} known for?
! The house drink of {name} is {v}.

game; club; sport
+ competes in {v} | is {a} {v} club | trains its members in {v} | fields a team in {v}
= {P} sport is {v} | the sport that {S} lives for is {v}
: Sport | Competes in
? What sport does {name} compete in? | Which sport is {name} dedicated to? | What is the sport of {name}? | In what
    sport does {name} train its members?
! {name} competes in {v}.

exhibit; museum; vehicle animal instrument
+ is best known for an ancient {v} | displays {a} {v} in its entrance hall | owns {a} {v} of great value | was given
    {a} {v} as its first exhibit
= {P} most famous exhibit is {a} {v} | visitors queue at {O} to see {a} {v}
: Main exhibit | On display
? What is the most famous exhibit of {name}? | What does {name} display in its entrance hall? | What do visitors queue
    to see at {name}? | What was given to {name} as its first exhibit?
! The most famous exhibit of {name} is {a} {v}.

founder; company school museum restaurant club festival band town; person
+ was founded by {v} | was the idea of {v} | owes its existence to {v} | was started by {v}
= {P} founder was {v} | it was {v} who founded {O} | {v} laid the foundations of {O}
: Founder | Founded by
? Who founded {name}? | Who was the founder of {name}? | Who started {name}? | To whom does {name} owe its existence?
! {name} was founded by {v}.

founded; company school museum restaurant club festival band town; year date
+ has existed since {v} | traces its beginnings to {v} | goes back to {v} | counts its years from {v}
= {P} history began in the records of {v} | the oldest document about {O} gives {v} as its beginning
: Founded | Since
? Since when has {name} existed? | When was {name} founded? | What is the founding date of {name}? | When did the
    history of {name} begin?
! {name} has existed since {v}.

head; company school museum club festival; person
+ is run by {v} | is headed by {v} | has been led by {v} for a long time | recently appointed {v} as director
= {P} director is {v} | {v} heads {O} | the one in charge of {O} is {v}
: Director | Head
? Who is the director of {name}? | Who runs {name}? | Who heads {name}? | By whom is {name} led?
! The director of {name} is {v}.

size; company school museum club festival; count
+ has {v} members in all | counts {v} people in its lists | keeps the names of {v} people on file | claims {v}
    members, staff included
= {P} membership stands at {v} | the latest count gave {O} {v} members
: Members | Number of members
? How many members does {name} have? | What is the number of members of {name}? | How many people are in the lists of
    {name}? | What did the latest count of {name}'s members give?
! {name} has {v} members.

budget; company school museum club festival restaurant; money
+ spent {v} last year | works with a budget of {v} | received a loan of {v} | needs {v} a year
= {P} budget is {v} | the accounts of {O} show {v}
: Budget | Yearly budget
? How large is the budget of {name}? | What is {name}'s budget? | How much money does {name} work with? | What sum do
    the accounts of {name} show?
! The budget of {name} is {v}.

sponsor; school museum club festival band restaurant; company
+ is sponsored by {v} | is paid for by {v} | has a contract with {v} | could not survive without {v}
= {P} sponsor is {v} | {v} pays the bills of {O}
: Sponsor | Supported by
? Which company sponsors {name}? | Who is the sponsor of {name}? | What company pays for {name}? | With which firm
    does {name} have a contract?
! {name} is sponsored by {v}.

album; band; title
+ recorded "{v}" | released an album called "{v}" | had its greatest success with "{v}" | became famous through "{v}"
= {P} best-known album is "{v}" | the album "{v}" was made by {O}
: Album | Best-known record
? What is the best-known album of {name}? | Which album did {name} record? | What is the title of {name}'s album? |
    With which record did {name} have its greatest success?
! {name} recorded "{v}".

rival; company club restaurant; company
+ competes fiercely with {v} | lost customers to {v} | regards {v} as its rival | once tried to buy {v}
= {P} main rival is {v} | the firm that {S} fears most is {v}
: Main rival | Rival
? What is the main rival of {name}? | With which firm does {name} compete? | Which firm does {name} regard as its
    rival? | What firm does {name} fear most?
! The main rival of {name} is {v}.
"""
